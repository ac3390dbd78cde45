// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// One event for every change of policy, so that the state can be rebuilt from the log alone.
abstract contract PolicyAudit {
    /// `policy` is keccak256 of a label, `value` what was changed: a hash, or an address padded on the left.
    event PolicyChanged(
        address indexed actor,
        bytes32 indexed policy,
        bytes32 indexed value,
        bool enabled
    );

    function _policyChanged(string memory label, bytes32 value, bool enabled) internal {
        emit PolicyChanged(msg.sender, keccak256(bytes(label)), value, enabled);
    }

    function _word(address account) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }

    function _isUpToDate(string calldata status) internal pure returns (bool) {
        return keccak256(bytes(status)) == keccak256("UpToDate");
    }
}
