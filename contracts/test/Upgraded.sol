// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {DstackApp} from "../DstackApp.sol";
import {DstackKms} from "../DstackKms.sol";

/// Later versions, for tests of upgrades.
contract UpgradedKms is DstackKms {
    uint256 public added;

    function setAdded(uint256 value) external onlyOwner {
        added = value;
    }
}

contract UpgradedApp is DstackApp {
    function generation() external pure returns (uint256) {
        return 3;
    }
}

/// An app contract that answers with nothing but gas burnt.
contract HostileApp {
    fallback() external {
        revert("no");
    }
}

contract Proxy is ERC1967Proxy {
    constructor(address implementation, bytes memory data) ERC1967Proxy(implementation, data) {}
}
